"""The four nets of the two studies in Keras, layer by layer as published, but with distances where A had squares."""

from collections.abc import Callable

import keras
from keras import KerasTensor, layers, ops

LENGTH, LETTERS = 256, 21


def distance_map(points: KerasTensor) -> KerasTensor:
    """Pairwise Euclidean distances [B, L, L] of points [B, L, 3]; the gradient at distance 0 is 0."""
    apart = ops.expand_dims(points, 2) - ops.expand_dims(points, 1)
    return ops.sqrt(ops.maximum(ops.sum(apart * apart, axis=-1), 1e-12))


def simple(ends_in_map: bool = True) -> keras.Model:
    """Study A's convolutions over profile and one-hot sequence: maps [B, 256, 256], or points [B, 256, 3]."""
    one_hot, profile = (keras.Input((LENGTH, LETTERS), name=name) for name in ("one_hot", "profile"))
    x = ops.stack([profile, one_hot], axis=-1)
    for channels in (16, 32, 16):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    points = layers.Reshape((LENGTH, 3))(layers.Dense(LENGTH * 3)(x))
    return keras.Model([one_hot, profile], distance_map(points) if ends_in_map else points)


def improved(ends_in_map: bool = True) -> keras.Model:
    """Study A's attention over two strided branches: maps [B, 256, 256], or points [B, 256, 3]."""
    one_hot, profile = (keras.Input((LENGTH, LETTERS), name=name) for name in ("one_hot", "profile"))

    def branch(x: KerasTensor, padding: str, width: int) -> KerasTensor:
        x = layers.Reshape((LENGTH, LETTERS, 1))(x)
        for channels in (32, 64):
            x = layers.Conv2D(channels, 3, strides=2, padding=padding)(x)
            x = layers.LeakyReLU(negative_slope=0.1)(x)
        return layers.Reshape((LENGTH, width))(x)

    x = layers.Concatenate()([branch(one_hot, "same", 96), branch(profile, "valid", 63)])
    x = layers.Dropout(0.3)(layers.Attention()([x, x]))
    x = layers.Reshape((LENGTH, 53, 3))(x)
    for channels, kernel in ((21, 3), (10, 3), (3, 3), (3, 1)):
        x = layers.Conv2D(channels, kernel, padding="same", activation="relu")(x)
    x = layers.Reshape((LENGTH, 159))(layers.Dense(3)(x))
    points = layers.Dense(3)(layers.Dropout(0.2)(x))
    return keras.Model([one_hot, profile], distance_map(points) if ends_in_map else points)


def psp0() -> keras.Model:
    """Study B's ResNet50 over |i - j| with transposed convolutions: maps [B, 256, 256]."""

    def tail(x: KerasTensor) -> KerasTensor:
        for channels, stride in ((128, 2), (64, 2), (32, 8)):
            x = layers.Conv2DTranspose(channels, 3, strides=stride, padding="same", activation="relu")(x)
        return x

    return _psp(tail)


def psp1() -> keras.Model:
    """Study B's ResNet50 over |i - j| with dropout and upsampling: maps [B, 256, 256]."""

    def tail(x: KerasTensor) -> KerasTensor:
        x = layers.Dropout(0.3)(x)
        for channels in (128, 64):
            x = layers.Conv2D(channels, 3, padding="same", activation="relu")(layers.UpSampling2D(2)(x))
        return layers.UpSampling2D(8)(x)

    return _psp(tail)


def _psp(tail: Callable[[KerasTensor], KerasTensor]) -> keras.Model:
    backbone = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(LENGTH, LENGTH, 1))
    x = layers.Conv2D(1, 3, padding="same")(tail(backbone.output))
    return keras.Model(backbone.input, layers.Reshape((LENGTH, LENGTH))(x))


NETS: dict[str, Callable[..., keras.Model]] = {"simple": simple, "improved": improved, "psp0": psp0, "psp1": psp1}


def masked_mse(true: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Mean squared error over the values that are known: the true ones that are not NaN."""
    known = ops.logical_not(ops.isnan(true))
    error = ops.where(known, predicted - ops.where(known, true, 0.0), 0.0)
    return ops.sum(error * error) / ops.sum(ops.cast(known, "float32"))


def compiled(net: keras.Model, *, xla: bool | str) -> keras.Model:
    """The net ready for `train_on_batch`, with the studies' optimiser; `xla` may be `auto`, Keras' default."""
    net.compile(optimizer=keras.optimizers.Adam(1e-5), loss=masked_mse, jit_compile=xla)
    return net
