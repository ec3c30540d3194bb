"""The convolutional network with batch norm of the MNIST experiments: 906,186 parameters for 1x28x28 and 10 classes.

They are 320 + 128 + 18,496 + 256 + 73,856 + 512 + 802,944 + 512 + 8,256 + 256 + 650, counting four per batch-norm
channel (scale, shift and the two running statistics).
"""

from __future__ import annotations

from harness.models.base import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    Shape,
    model,
    pooled,
)


@model("mnist-cnn")
def mnist_cnn(shape: Shape, num_classes: int, dropout: float) -> tuple[Layer, ...]:
    """Convolutions of 32, 64, 128 channels, pooled after the 2nd and 3rd; dense 128, 64, one output per class.

    Batch norm and ReLU follow every convolution and hidden dense layer; dropout follows the last pooling and every
    hidden dense layer.
    """
    height, width = pooled(pooled(shape))[1:]
    return (
        *_convolution(1, shape[0], 32),
        *_convolution(2, 32, 64),
        MaxPool(),
        *_convolution(3, 64, 128),
        MaxPool(),
        *_dropout(1, dropout, (128, height, width)),
        Flatten(),
        *_hidden(1, 128 * height * width, 128),
        *_dropout(2, dropout, (128,)),
        *_hidden(2, 128, 64),
        *_dropout(3, dropout, (64,)),
        Dense(name="dense3", in_features=64, out_features=num_classes),
    )


def _convolution(number: int, in_channels: int, out_channels: int) -> tuple[Layer, ...]:
    return (
        Conv(name=f"conv{number}", in_channels=in_channels, out_channels=out_channels),
        BatchNorm(name=f"bn{number}", num_features=out_channels),
        ReLU(),
    )


def _hidden(number: int, in_features: int, out_features: int) -> tuple[Layer, ...]:
    return (
        Dense(name=f"dense{number}", in_features=in_features, out_features=out_features),
        BatchNorm(name=f"bn{number + 3}", num_features=out_features),
        ReLU(),
    )


def _dropout(number: int, rate: float, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    return (Dropout(name=f"dropout{number}", rate=rate, shape=shape),) if rate else ()
