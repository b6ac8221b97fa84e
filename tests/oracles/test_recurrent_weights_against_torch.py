import numpy as np
import pytest

import pydnn as nn
from pydnn import Context
from pydnn.interop.weights import load_weights

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")

KINDS = {"RNN": nn.rnn, "GRU": nn.gru, "LSTM": nn.lstm}


@pytest.mark.parametrize("both_ways", [False, True], ids=["forward", "both ways"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_pytorch_give_its_outputs(tmp_path, kind, both_ways):
    torch.manual_seed(1)
    words, n, units, layers = 9, 5, 4, 2
    ids = torch.tensor([[0, 8, 2, 3], [5, 5, 1, 7]])
    letters = torch.nn.Embedding(words, n).double()
    theirs = getattr(torch.nn, kind)(n, units, layers, bidirectional=both_ways).double()
    out = torch.nn.Linear(units * (1 + both_ways), words).double()
    model = torch.nn.ModuleDict({"letters": letters, "recurrent": theirs, "out": out})
    expected = out(theirs(letters(ids.T))[0]).detach().numpy()  # (T, m, words)
    build = KINDS[kind]
    stage = (lambda: nn.bidirectional(build(units))) if both_ways else (lambda: build(units))
    network = nn.serial(nn.embedding(words, n), stage(), stage(), nn.dense(words))
    path = tmp_path / "model.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    for source in (model.state_dict(), path):
        weights = load_weights(network, source, shape_in=(4,), on_table=None)
        A, _ = network.forward(weights.parameters.tree, ids.numpy().T, Context())
        np.testing.assert_allclose(A.swapaxes(1, 2), expected, rtol=1e-12, atol=1e-13)
