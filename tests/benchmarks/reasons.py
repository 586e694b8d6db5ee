"""Why targets are missed, as far as it was measured; the page shows those of the items that miss one."""

from __future__ import annotations

REASONS = {
    "nt_xent": "Half the logits stored would be a matrix that grows with the square of the rows, which the law of "
    "memory rules out, and would break the target for memory: logits are made again. At N = 256 two "
    "products of 512 rows take 1.36 of 2.5 ms; rows to unit length and back, exponentials, sums and what pulls at "
    "each logit the rest, 0.02 to 0.2 ms each. Runs before had 0.82 and 0.86 at N = 4096, and 0.80 at N = 8192.",
    "clip": "Logits are not stored, as for NT-Xent. Four products with the logits made again are 1.33 of the floor by "
    "themselves; at N = 1024 exponentials, sums and the first use of memory weigh more beside so short products.",
    "queue_loss": "All keys are checked to be finite (3 ms of 65536 keys) and their largest norm is found, which lets "
    "exponentials do without a maximum (4 ms): one tenth of the floor.",
    "small_nt_xent": "Some ten operations, checks of the input and autograd's own call cost more than the arithmetic.",
    "small_info_nce": "As for NT-Xent: the number of operations counts at this size, not their length.",
    "small_clip": "As for NT-Xent: the number of operations counts at this size, not their length.",
    "small_spread": "As for NT-Xent: the number of operations counts at this size, not their length.",
    "momentum": "On this machine torch's own lerp of one flat tensor takes 1.08 to 1.17 of the copy and the bare "
    "`_foreach_lerp_` of the parameters 1.12 to 1.27; finding and checking the pairs takes another half millisecond. "
    "The released forms, too, are slower by less here than where the targets were set.",
    "sinkhorn": "The gain of `out=` is memory that is not made anew. At P = 3000 the released form had 24,000 page "
    "faults a call, 50 of its 170 to 190 ms, and `out=` was 2.7 to 3.1 times as fast; in a process whose allocator "
    "keeps what is freed there were none, and it was 2.0 times as fast (measured apart). The run before had 2.28 "
    "without `out=` at P = 3000, and 6.3 of the copy at P = 65536.",
    "enqueue": "The copy that is the floor writes the same hot rows again and again. Writing to a place that moves "
    "takes 4.8 of it by itself, the check that keys are finite 2.5, the counter of keys the rest.",
    "shuffle_bn": "A thread of gloo may still hold what was sent when the result is made. Without that no more than "
    "2.1 b exist, which a test counts.",
    "multi_crop": "Half of the time goes into the crops and a third into the blur, most of it in products along rows, "
    "which are short. Cut by torch's resize of bytes, from boxes of whole pixels and rounded to 1/255, the crops of "
    "an image would take 2.6 ms instead of 5.2, measured apart.",
}
