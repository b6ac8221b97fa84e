"""Samples of text from a trained model that predicts the next letter or word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.data.texts import UNKNOWN, Vocabulary
from pydnn.descriptions.builders import build
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import FloatArray
from pydnn.stages.base import Context, Stage
from pydnn.training import output_of

if TYPE_CHECKING:
    from pydnn.jobs.model import Model

__all__ = ["sample"]

_MOST_SAMPLES = 100_000
_MOST_SYMBOLS = 1_000_000
_MOST_DRAWN = 100_000_000  # symbols in all texts together, with 16 bytes each


@ignoring_underflow
def sample(
    model: Model,
    count: int = 1,
    *,
    key: Key | None = None,
    temperature: float = 1.0,
    most: int = 200,
    start: str = "",
) -> tuple[str, ...]:
    """Draw texts from a model of texts, symbol by symbol; see `Model.sample`."""
    vocabulary = expect_text_model(model)
    count = expect_count("count", count, most=_MOST_SAMPLES, hint="give the number of texts")
    most = expect_count("most", most, most=_MOST_SYMBOLS, hint="give the largest number of symbols")
    if count * most > _MOST_DRAWN:
        raise BadInput(
            f"{count:,} texts of up to {most:,} symbols are {count * most:,}, expected at most "
            f"{_MOST_DRAWN:,}: draw fewer at a time, with another key, or shorter ones."
        )
    hint = "1 draws as the model predicts, and 0 takes the most probable symbol"
    temperature = expect_real("temperature", temperature, least=0, hint=hint)
    try:
        given = vocabulary.ids(start).tolist()
    except BadInput as error:
        raise BadInput(f"start: {error}") from error
    before = [vocabulary.start if vocabulary.lines else 0, *given]
    root = key or Key(1)
    # The address of each text is its number, whatever the number of texts.
    uniforms = np.stack([root.at("sample", i).uniform(most) for i in range(count)])
    predict = _Predictor(model, vocabulary, temperature)
    ids = np.empty((len(before) + most, count), np.int64)
    ids[: len(before)] = np.array(before)[:, np.newaxis]
    lengths = np.full(count, most)
    alive = np.arange(count)
    for step in range(most):
        end = len(before) + step
        chosen = predict(ids[:end, alive], uniforms[alive, step])
        ids[end, alive] = chosen
        if vocabulary.lines:
            lengths[alive[chosen == 0]] = step
            alive = alive[chosen != 0]
        if not alive.size:
            break
    first = 1  # without what stands before the first symbol
    return tuple(
        vocabulary.text(ids[first : len(before) + length, i]) for i, length in enumerate(lengths)
    )


def expect_text_model(model: Model) -> Vocabulary:
    """The vocabulary of a model of texts.

    Raises:
        BadInput: If the model was not trained on a text.
    """
    if model.vocabulary is None:
        raise BadInput(
            "the model was not trained on a text, so it cannot write one: give a model that was, "
            "e.g. of pydnn train --data names.txt."
        )
    return model.vocabulary


class _Predictor:
    """Draws the next symbol of each text from what the model predicts."""

    def __init__(self, model: Model, vocabulary: Vocabulary, temperature: float) -> None:
        self._model, self._vocabulary, self._temperature = model, vocabulary, temperature
        self._network: Stage = build(model.recipe.network, family="stage")
        self._loss: Loss = build(model.recipe.loss, family="loss")
        # A network may have learned nothing about longer texts, and every step runs all of them.
        self._steps = model.shape[0]
        symbols = vocabulary.symbols
        self._unknown = symbols.index(UNKNOWN) if UNKNOWN in symbols else None

    def __call__(self, ids: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """The ids of the next symbols (m,) after texts `ids` (T, m), by uniform numbers (m,)."""
        P = self._probabilities(ids[-self._steps :].astype(np.float64))
        if self._unknown is not None:
            P[self._unknown] = 0
        chosen: NDArray[np.int64] = P.argmax(axis=0)
        if self._temperature:
            sums = P.cumsum(axis=0)
            chosen = np.minimum((sums <= uniforms * sums[-1]).sum(axis=0), len(P) - 1)
        return chosen

    def _probabilities(self, ids: NDArray[np.float64]) -> FloatArray:
        """The probability of each symbol after texts ids (T, m), at the temperature, (K, m)."""
        model, numerics = self._model, self._model.recipe.arithmetic
        AL = output_of(self._network, model, model.inputs(ids), numerics=numerics)
        K = len(self._vocabulary.symbols)
        if AL.shape[:-1] != (len(ids), K):
            raise BadInput(
                f"the network gives {AL.shape[:-1]} for a text of {len(ids)} symbols, expected "
                f"({len(ids)}, {K}), the logit of each symbol after each step: train one that "
                f"ends in dense({K}) on all steps."
            )
        logits = AL[-1] - AL[-1].max(axis=0)
        if self._temperature:
            with np.errstate(over="ignore"):
                logits = logits / self._temperature
        P: FloatArray = self._loss.predict(logits.astype(AL.dtype), Context(numerics=numerics))
        return P.astype(np.float64)
