"""Every kind of fault."""

from campaigns.chaos.kinds import calls, candidates, learning, membership, processes, servers

KINDS = (*processes.KINDS, *calls.KINDS, *learning.KINDS, *candidates.KINDS, *membership.KINDS, *servers.KINDS)
