"""The causes that can be named: what each means, how to make sure, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """What a user needs beside the name of a cause."""

    check: str
    mend: str


CAUSES: dict[str, Cause] = {
    # -- what ranks exchange
    "summed-not-averaged": Cause(
        check="run it with another world size: the factor follows it; print the norm of a gradient before and after "
        "the reduction",
        mend="average instead of adding: divide by the world size once, in the reduction (ReduceOp.AVG) or in the loss",
    ),
    "divided-twice": Cause(
        check="run it with another world size: the factor follows it; look for a division by the world size beside "
        "the averaging reduction",
        mend="divide once: DistributedDataParallel and FSDP average already, so the loss must not be divided, too",
    ),
    "wrong-divisor": Cause(
        check="print the size of the group that is reduced over and the number that is divided by",
        mend="divide by the number of replicas that hold different samples, not by the number of all ranks or by a "
        "nominal batch",
    ),
    "gradients-scaled": Cause(
        check="print the norm of a gradient after backward, after the reduction and before the update: it changes by "
        "this factor in between",
        mend="take the factor out: a loss scale that is not removed, a collective whose own backward scales, a "
        "division by a number of pieces",
    ),
    "not-reduced": Cause(
        check="compare the gradient over ranks after backward: it differs; see whether its parameter was in the "
        "wrapper when that was made, and whether the wrapper's forward is what is called",
        mend="wrap the model after its parameters are final, call the wrapper instead of the inner module, and reduce "
        "what a custom layer leaves to its caller",
    ),
    "reduced-too-early": Cause(
        check="set the accumulation to 1: the difference goes; print in which micro-batch the reduction runs",
        mend="leave no_sync in the last micro-batch of a step, its forward included",
    ),
    "stale-gradients": Cause(
        check="wait for the device and for all communication before the update: the difference goes",
        mend="wait for the handle of every asynchronous reduction before its result is read",
    ),
    "gradients-not-zeroed": Cause(
        check="print the gradient's norm before backward: it must be zero",
        mend="call zero_grad at the beginning of every step, on the optimizer that owns these parameters",
    ),
    "zeroed-communication": Cause(
        check="let every rank log the norm of what it sends and receives; run the same steps again and see whether "
        "the same ones are hit",
        mend="look for a rank that leaves out a collective, a bucket that is never filled, a buffer that is read "
        "before it is written",
    ),
    "rank-left-out": Cause(
        check="let every rank log the norm of its own gradient in this step, and whether it took part in the reduction",
        mend="let every rank run forward and backward in every step, or divide by the number of those that did",
    ),
    "accumulation-rescaled": Cause(
        check="set the accumulation to 1: the difference goes; print a gradient after every micro-batch",
        mend="divide each micro-batch's loss once, and leave what is accumulated already alone",
    ),
    "low-precision-reduction": Cause(
        check="see in which type the communication runs (a compression hook, a reduce_dtype, a communication dtype)",
        mend="reduce in the parameters' type, or judge this strategy statistically if the compression is wanted",
    ),
    # -- the loss
    "loss-scaled": Cause(
        check="compare the loss of step 0 with serial's: it is off by the same factor as the gradients",
        mend="let the loss be the mean over the global batch: no factor of the world size before or after backward",
    ),
    "mean-of-means": Cause(
        check="use a number of samples that every batch and rank divides: the difference goes",
        mend="weigh each rank's mean with its number of samples, or divide the sum by the global number",
    ),
    "accumulation-not-divided": Cause(
        check="change the number of micro-batches: the factor follows it",
        mend="divide each micro-batch's loss by the number of micro-batches, or weigh it with its samples",
    ),
    "divided-by-micro-batches": Cause(
        check="change the number of micro-batches: the factor follows it",
        mend="divide by the number of micro-batches once: the schedule or the loss, not both",
    ),
    "micro-batch-left-out": Cause(
        check="count the forwards and backwards of a step",
        mend="start accumulating at the first micro-batch and update after the last one",
    ),
    "dropout-masks": Cause(
        check="set dropout to 0: the difference goes; print a mask on every rank and in the recomputed forward",
        mend="draw masks by sample, or restore the generator's state before a recomputation, and seed replicas apart "
        "and pieces of one replica alike",
    ),
    "augmentation-shared": Cause(
        check="turn augmentation off: the difference goes; compare the augmented images of two ranks",
        mend="seed the augmentation by sample or by rank, not once for all ranks and workers",
    ),
    "padding-trained": Cause(
        check="use a number of samples that needs no padding: the difference goes",
        mend="leave padded samples out of the loss by a label or a weight that counts for nothing",
    ),
    "stale-activations": Cause(
        check="wait for the device and the copies between stages before a stage's forward: the difference goes",
        mend="let each stage wait for the stream or the message that brings its input",
    ),
    # -- clipping
    "clipped-per-rank": Cause(
        check="print the norm before and after the reduction: it is below the limit before",
        mend="reduce first, then clip by the norm of the reduced gradient",
    ),
    "clip-wrong-norm": Cause(
        check="print the norm that clipping computes on every rank: it is not that of the whole gradient",
        mend="add up the squares over all pieces, each once, and let every rank clip by that one norm",
    ),
    "clip-skipped": Cause(
        check="print the gradient's norm after clipping: it exceeds the limit",
        mend="clip all parameters on every rank, after unscaling and before the update",
    ),
    # -- the update
    "learning-rate-scaled": Cause(
        check="print the optimizer's learning rate on every rank",
        mend="set the rate as in serial training; if it is meant to grow with the batch, the reference must use it, "
        "too",
    ),
    "rate-schedule": Cause(
        check="print the learning rate of every step",
        mend="step the scheduler once per epoch (or step) whatever the number of ranks and micro-batches",
    ),
    "regulariser-scaled": Cause(
        check="set the weight decay to 0: the difference goes",
        mend="count the regulariser once per step, not once per rank, and not in both the loss and the optimizer",
    ),
    "optimizer-state-lost": Cause(
        check="print the norm of the momentum (or moments) around this step",
        mend="keep the optimizer over the whole training, and save and load its state with the weights",
    ),
    "optimizer-state-differs": Cause(
        check="compare the loaded state over ranks, and with what was saved",
        mend="load the state on every rank (or broadcast it), resharded for the number of ranks that load it",
    ),
    "optimizer-settings": Cause(
        check="print the optimizer's settings (momentum, betas, Nesterov, decay) on every rank",
        mend="hand the optimizer the same settings as in serial training; wrappers and fused optimizers have defaults "
        "of their own",
    ),
    "adam-step-count": Cause(
        check="print the optimizer's step number",
        mend="let nothing call the update but training steps, and save and load the step number",
    ),
    "nothing-updated": Cause(
        check="print a parameter before and after the update; see whether the optimizer's parameters are the model's",
        mend="make the optimizer after the model is wrapped, moved or replaced, from the parameters that are trained",
    ),
    "step-skipped": Cause(
        check="let every rank log each update; look for a check for infinities or an early exit that one rank takes "
        "alone",
        mend="decide on skipping a step together: reduce the flag over all ranks",
    ),
    "frozen-trained": Cause(
        check="print requires_grad of this parameter after wrapping, and what the optimizer holds",
        mend="freeze before wrapping, and hand the optimizer only what is to be trained",
    ),
    "trained-frozen": Cause(
        check="print requires_grad of this parameter, and whether its gradient is None",
        mend="leave it trainable, and let the forward use it and not a copy or a detached value",
    ),
    # -- weights, buffers, data, evaluation
    "no-broadcast": Cause(
        check="compare a checksum of the initial weights over ranks",
        mend="broadcast parameters and buffers from rank 0 before the first step, or seed every rank alike",
    ),
    "weights-not-restored": Cause(
        check="compare a checksum of the weights over ranks, and with what was saved",
        mend="load the weights on every rank, strictly, after the model is wrapped as the checkpoint expects",
    ),
    "buffers-not-synchronised": Cause(
        check="compare the running statistics over ranks before a forward",
        mend="broadcast buffers from rank 0 (broadcast_buffers=True), or use a synchronised batch norm",
    ),
    "buffers-wrong": Cause(
        check="count the forwards in training mode of a step; compare running statistics before and after it",
        mend="update running statistics once a step: not in a recomputation, not once per micro-batch, not averaged "
        "twice",
    ),
    "wrong-samples": Cause(
        check="print the sample numbers of every rank in this step",
        mend="give each rank its own share of every batch: by its rank and the number of replicas, shared out once",
    ),
    "epoch-order": Cause(
        check="print the sample numbers of the first step of two epochs",
        mend="call set_epoch on the sampler of every rank at the beginning of each epoch",
    ),
    "padded-evaluation": Cause(
        check="count the samples that all ranks together evaluate",
        mend="let shares differ in size, or drop the duplicates that fill them up before the scores are added",
    ),
}
