"""Scores forests on blocks of rows: no branches, no pointers to follow, the same operations for every row.

A row reaches the first leaf, from the left, that no test has ruled out. Each inner node rules out the leaves of its left subtree when its test
fails, and the order of the nodes does not matter, so that a tree is a list of (column, threshold, leaves kept) that is run through once for
sixteen rows at a time; thresholds are compared and masks joined by vector instructions. Lucchese et al., "QuickScorer" (SIGIR 2015), section 3,
and "Exploiting CPU SIMD extensions to speed up document scoring with tree ensembles" (SIGIR 2016).

LLVM does not vectorise this loop by itself, hence the inner loop in its own language.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tidemill.shared.models.blocks import LANES

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


def _splat(builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    """Return a vector with the value in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _rule_out(missing_passes: bool) -> Any:  # numba's intrinsics are untyped
    """Make ``f(block, columns, thresholds, keeps, begin, end, alive)``: run nodes [begin, end) over one block and update its leaves alive.

    A node's test is ``value <= threshold``; a missing value (NaN) passes it or not.
    """

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]  # Numba has no types
    def rule_out(_context, block, columns, thresholds, keeps, begin, end, alive):
        masks = ir.VectorType(ir.IntType(keeps.dtype.bitwidth), LANES)

        def code(context, builder, signature, arguments):
            arrays = [context.make_array(kind)(context, builder, value).data for kind, value in zip(signature.args[:4], arguments[:4], strict=True)]
            rows, column, threshold, keep = arrays
            leaves = builder.bitcast(context.make_array(signature.args[6])(context, builder, arguments[6]).data, masks.as_pointer())

            def load(pointer: ir.Value) -> ir.Value:
                value = builder.load(pointer)
                value.align = 4
                return value

            before, first = builder.block, load(leaves)
            head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            node, now = builder.phi(_I64), builder.phi(masks)
            node.add_incoming(arguments[4], before)
            now.add_incoming(first, before)
            builder.cbranch(builder.icmp_signed("<", node, arguments[5]), body, done)
            builder.position_at_end(body)
            at = builder.mul(builder.sext(builder.load(builder.gep(column, [node])), _I64), ir.Constant(_I64, LANES))
            values = load(builder.bitcast(builder.gep(rows, [at]), _FLOATS.as_pointer()))
            compare = builder.fcmp_unordered if missing_passes else builder.fcmp_ordered
            passed = compare("<=", values, _splat(builder, builder.load(builder.gep(threshold, [node])), _FLOATS))
            kept = builder.or_(builder.sext(passed, masks), _splat(builder, builder.load(builder.gep(keep, [node])), masks))
            after = builder.and_(now, kept)
            node.add_incoming(builder.add(node, ir.Constant(_I64, 1)), body)
            now.add_incoming(after, body)
            builder.branch(head)
            builder.position_at_end(done)
            builder.store(now, leaves).align = 4
            return context.get_dummy_value()

        return types.void(block, columns, thresholds, keeps, types.int64, types.int64, alive), code

    return rule_out


_rule_out_missing_passes = _rule_out(True)
_rule_out_missing_fails = _rule_out(False)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]  # Numba has no types
def _lowest(_context, mask):
    """Return the position of the lowest bit that is set."""

    def code(_context, builder, signature, arguments):
        zeros = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(zeros, _I64) if signature.args[0].bitwidth < 64 else zeros

    return types.int64(mask), code


_lowest_set: Any = _lowest


@njit(cache=True, nogil=True)
def score_forests(
    blocks, first_tree, base, logistic, first_node, first_failing, columns, thresholds, keeps, first_leaf, leaves, scores
):  # pragma: no cover
    """Fill `scores`, shape (forests, padded rows): sum of the leaves in the order of the trees, in float32, then the logistic function.

    Parameters
    ----------
    blocks : float32, shape (blocks, columns, LANES)
    first_tree : int64, shape (forests + 1,)
    base, logistic : float32 and bool, shape (forests,)
    first_node, first_leaf : int64, shape (trees + 1,)
    first_failing : int64, shape (trees,)
        Nodes before it let a missing value pass, the others do not.
    columns, thresholds, keeps : int32, float32 and int32 (or int64, for more than 32 leaves), shape (nodes,)
    leaves : float32
    """
    alive = np.empty(LANES, keeps.dtype)
    total = np.empty(LANES, np.float32)
    for forest in range(base.size):
        for b in range(blocks.shape[0]):
            block = blocks[b]
            total[:] = 0
            for tree in range(first_tree[forest], first_tree[forest + 1]):
                alive[:] = -1
                _rule_out_missing_passes(block, columns, thresholds, keeps, first_node[tree], first_failing[tree], alive)
                _rule_out_missing_fails(block, columns, thresholds, keeps, first_failing[tree], first_node[tree + 1], alive)
                leaf = first_leaf[tree]
                for lane in range(LANES):
                    total[lane] += leaves[leaf + _lowest_set(alive[lane])]
            for lane in range(LANES):
                score = total[lane] + base[forest]
                if logistic[forest]:
                    high = np.float32(1.0) / (np.float32(1.0) + math.exp(-abs(score)))
                    score = np.float32(1.0) - high if score < 0 else high
                scores[forest, b * LANES + lane] = score


@njit(cache=True, nogil=True)
def score_class_forest(  # pragma: no cover
    blocks, base, softmax, first_node, first_failing, columns, thresholds, keeps, first_leaf, leaves, first_output, widths, scores,
):  # fmt: skip
    """Fill `scores`, shape (padded rows, outputs): sums of the leaves in the order of the trees, in float32, then a softmax in 64 bits.

    A tree is run through once for all of its outputs.

    Parameters
    ----------
    base : float32, shape (outputs,)
    first_leaf : int64, shape (trees,)
        Where a tree's leaves begin in `leaves`.
    leaves : float32
        `widths[tree]` numbers for each leaf.
    first_output, widths : int64, shape (trees,)
        The outputs of a tree: so many from the first on.
    blocks, first_node, first_failing, columns, thresholds, keeps
        As of `score_forests`.
    """
    alive = np.empty(LANES, keeps.dtype)
    total = np.empty((base.size, LANES), np.float32)
    for b in range(blocks.shape[0]):
        block = blocks[b]
        total[:] = 0
        for tree in range(first_failing.size):
            alive[:] = -1
            _rule_out_missing_passes(block, columns, thresholds, keeps, first_node[tree], first_failing[tree], alive)
            _rule_out_missing_fails(block, columns, thresholds, keeps, first_failing[tree], first_node[tree + 1], alive)
            leaf, output, width = first_leaf[tree], first_output[tree], widths[tree]
            for lane in range(LANES):
                place = leaf + width * _lowest_set(alive[lane])
                for i in range(width):
                    total[output + i, lane] += leaves[place + i]
        for lane in range(LANES):
            row = b * LANES + lane
            most = -math.inf
            for k in range(base.size):
                scores[row, k] = total[k, lane] + base[k]
                most = max(most, scores[row, k])
            if softmax:
                whole = 0.0
                for k in range(base.size):
                    scores[row, k] = math.exp(scores[row, k] - most)
                    whole += scores[row, k]
                for k in range(base.size):
                    scores[row, k] /= whole
