"""Every kind of fault."""

from campaigns.chaos.kinds import calls, learning, membership, processes, servers

KINDS = (*processes.KINDS, *calls.KINDS, *learning.KINDS, *membership.KINDS, *servers.KINDS)
