import contextlib
import io
import json
import pickle
import types
import zipfile

import attrs
import h5py
import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput, Batch, Key, Recipe
from pydnn.interop import load_weights
from pydnn.interop.exporting import weights_of
from pydnn.interop.npz import npz_bytes
from pydnn.interop.safetensors import safetensors_bytes

NETWORK = nn.serial(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(4), nn.layer_norm(),
                    nn.stages.tanh(), nn.dense(2))  # fmt: skip


def drawn(*shape):
    return Key(3).at(*shape).normal(shape)


# The arrays as pydnn has them. The second matrix is square, so only its kind tells how it lies.
W = [drawn(4, 3), drawn(4, 4), drawn(2, 4)]
B = [drawn(4), drawn(4, 1, 1).ravel(), drawn(2)]
GAMMA, BETA, MEAN, SCALE, SHIFT = (drawn(4, n)[:, 0] for n in (2, 5, 6, 8, 9))
VARIANCE = 2 + drawn(4, 7)[:, 0] ** 2
OURS = {
    "0/W": W[0], "0/b": B[0], "1/gamma": GAMMA, "1/beta": BETA, "statistics/1/mean": MEAN,
    "statistics/1/variance": VARIANCE, "3/W": W[1], "3/b": B[1], "4/gamma": SCALE,
    "4/beta": SHIFT, "6/W": W[2], "6/b": B[2],
}  # fmt: skip

TORCH = {
    "0.weight": W[0], "0.bias": B[0],
    "1.weight": GAMMA, "1.bias": BETA, "1.running_mean": MEAN, "1.running_var": VARIANCE,
    "1.num_batches_tracked": np.array(7),
    "3.weight": W[1], "3.bias": B[1], "4.weight": SCALE, "4.bias": SHIFT,
    "6.weight": W[2], "6.bias": B[2],
}  # fmt: skip
FLAX = {
    "params": {
        "BatchNorm_0": {"bias": BETA, "scale": GAMMA},
        "Dense_0": {"bias": B[0], "kernel": W[0].T},
        "Dense_1": {"bias": B[1], "kernel": W[1].T},
        "Dense_2": {"bias": B[2], "kernel": W[2].T},
        "LayerNorm_0": {"bias": SHIFT, "scale": SCALE},
    },
    "batch_stats": {"BatchNorm_0": {"mean": MEAN, "var": VARIANCE}},
}
KERAS = {
    "dense": [W[0].T, B[0]],
    "batch_normalization": [GAMMA, BETA, MEAN, VARIANCE],
    "dense_1": [W[1].T, B[1]],
    "layer_normalization": [SCALE, SHIFT],
    "dense_2": [W[2].T, B[2]],
}
KERAS_NAMES = {2: ["kernel:0", "bias:0"], 4: ["gamma:0", "beta:0", "moving_mean:0",
               "moving_variance:0"]}  # fmt: skip
CONFIG = {
    "class_name": "Sequential",
    "config": {
        "layers": [
            {"class_name": name, "config": {"name": "mine"}}
            for name in ["InputLayer", "Dense", "BatchNormalization", "ReLU", "Dense",
                         "LayerNormalization", "Activation", "Dense"]
        ]
    },
}  # fmt: skip


def keras_3(file, layers=KERAS, root="layers"):
    for name, arrays in layers.items():
        for number, array in enumerate(arrays):
            file[f"{root}/{name}/vars/{number}"] = array.astype(np.float32)
    file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    file["optimizer/vars/0"] = np.array(7)


def keras_2(file, layers=KERAS, names=list):
    file.attrs["layer_names"] = names([name.encode() for name in [*layers, "activation"]])
    for name, arrays in {**layers, "activation": []}.items():
        group = file.create_group(name)
        weights = [f"{name}/{leaf}" for leaf in KERAS_NAMES.get(len(arrays), [])]
        group.attrs["weight_names"] = names([leaf.encode() for leaf in weights])
        for leaf, array in zip(weights, arrays, strict=True):
            group[leaf] = array


def hdf5_bytes(write):
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        write(file)
    return raw.getvalue()


def archive(members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return raw.getvalue()


FILES = {
    "model.safetensors": lambda: safetensors_bytes(TORCH, about=""),
    "model.npz": lambda: npz_bytes(TORCH, texts={}),
    "in_order.npz": lambda: npz_bytes(dict(zip(IN_ORDER, OURS.values(), strict=True)), texts={}),
    "model.weights.h5": lambda: hdf5_bytes(keras_3),
    "older.weights.h5": lambda: hdf5_bytes(
        lambda file: keras_3(file, root="_layer_checkpoint_dependencies")
    ),
    "model.keras": lambda: archive(
        {"config.json": json.dumps(CONFIG), "model.weights.h5": hdf5_bytes(keras_3)}
    ),
    "keras2.h5": lambda: hdf5_bytes(keras_2),  # whose names are of varying size, or fixed
    "older_keras2.h5": lambda: hdf5_bytes(lambda file: keras_2(file, names=np.array)),
    "whole_model.h5": lambda: hdf5_bytes(lambda file: keras_2(file.create_group("model_weights"))),
}  # fmt: skip
KIND = {"in_order.npz": "pytorch"}
IN_ORDER = [f"arr_{number}" for number in range(12)]


def assert_loaded(weights, *, rtol=1e-7):
    found = {slot.name: weights.parameters[slot.name] for slot in weights.parameters.layout.slots}
    found |= {
        f"statistics/{slot.name}": weights.statistics[slot.name]
        for slot in weights.statistics.layout.slots
    }
    assert found.keys() == OURS.keys()
    for name, array in OURS.items():
        np.testing.assert_allclose(found[name].ravel(), array.ravel(), rtol=rtol, err_msg=name)


def loaded(source, network=NETWORK, **options):
    return load_weights(network, source, on_table=None, **options)


@pytest.mark.parametrize("name", FILES)
def test_weights_of_a_file_go_to_their_layers(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name]())
    assert_loaded(loaded(tmp_path / name, kind=KIND.get(name)))


@pytest.mark.parametrize("source", [TORCH, FLAX, OURS], ids=["torch", "flax", "pydnn"])
def test_weights_of_a_mapping_go_to_their_layers(source):
    if source is OURS:
        source = {n: a if a.ndim == 2 else a[:, np.newaxis] for n, a in OURS.items()}
    weights = loaded(source)
    assert_loaded(weights, rtol=0)
    assert not weights.parameters.vector.flags.writeable


def test_the_dictionary_of_a_textbook_exercise_is_loaded():
    parameters = {"W1": W[0], "b1": B[0][:, np.newaxis], "W2": W[2], "b2": B[2][:, np.newaxis]}
    weights = loaded(parameters, nn.serial(nn.dense(4), nn.relu(), nn.dense(2)))
    np.testing.assert_array_equal(weights.parameters["2/W"], W[2])
    np.testing.assert_array_equal(weights.parameters["0/b"][:, 0], B[0])


def test_weights_of_a_fitted_mlp_go_to_their_layers():
    mlp = types.SimpleNamespace(coefs_=[W[0].T, W[2].T], intercepts_=[B[0], B[2]])
    weights = loaded(mlp, nn.serial(nn.dense(4), nn.relu(), nn.dense(2)))
    np.testing.assert_array_equal(weights.parameters["2/W"], W[2])
    assert [row[0] for row in weights.table] == [
        "coefs_[0]", "intercepts_[0]", "coefs_[1]", "intercepts_[1]",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_fitted_mlp_of_scikit_learn_gives_the_same_outputs():
    neural = pytest.importorskip("sklearn.neural_network")
    X, y = Key(1).normal((30, 4)), np.arange(30) % 3
    with pytest.warns(UserWarning, match="iterations"):
        mlp = neural.MLPClassifier((5, 5), max_iter=3, random_state=0).fit(X, y)
    network = nn.serial(nn.dense(5), nn.relu(), nn.dense(5), nn.relu(), nn.dense(3))
    weights = loaded(mlp, network)
    AL = nn.output_of(network, weights, X.T)
    P = nn.softmax_cross_entropy().predict(AL)
    np.testing.assert_allclose(P.T, mlp.predict_proba(X), atol=1e-12)


class Tensor:
    """What load_weights asks of a tensor of PyTorch."""

    def __init__(self, array, dtype="torch.float32"):
        self.array, self.dtype = array, dtype

    def detach(self):
        return Tensor(self.array, self.dtype)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array)

    def numpy(self):
        assert self.dtype == "torch.float32"  # PyTorch refuses bfloat16
        return self.array


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_tensors_of_pytorch_are_taken(dtype):
    tensors = {name: Tensor(array.astype(np.float32), dtype) for name, array in TORCH.items()}
    weights = loaded(tensors)
    assert_loaded(weights, rtol=1e-6)
    assert weights.parameters.vector.dtype == np.float32


def test_real_state_dicts_are_loaded_as_they_are():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 4),
        torch.nn.LayerNorm(4), torch.nn.Tanh(), torch.nn.Linear(4, 2),
    ).double()  # fmt: skip
    theirs(torch.randn(9, 3).double())
    theirs.eval()
    X = torch.randn(5, 3).double()
    loaded(theirs.state_dict(), check=(X.numpy().T, theirs(X).detach().numpy().T))


# pydnn's own


@pytest.fixture(scope="module")
def model():
    recipe = nn.Recipe(
        "drawn", NETWORK, nn.softmax_cross_entropy(), nn.adam(), iterations=3, standardize=True
    )
    return nn.train(recipe, Batch(drawn(3, 8), [[0, 1, 0, 1, 1, 0, 0, 1]])).model


@pytest.mark.parametrize("name", ["model.h5", "m.safetensors", "m.npz", "run", None])
def test_what_pydnn_writes_comes_back_bit_for_bit(name, model, tmp_path):
    source = model
    if name is not None:
        source = tmp_path / name
        if name == "run":
            source.mkdir()
            model.save(source / "model.h5")
        elif name == "model.h5":
            model.save(source)
        else:
            model.export(source)
    weights = loaded(source)
    assert weights.parameters == model.parameters
    assert weights.statistics == model.statistics


def test_what_pydnn_writes_is_matched_by_name(model):
    arrays = dict(reversed(weights_of(model).items()))
    assert loaded(arrays).parameters == model.parameters
    with pytest.raises(BadInput, match=r"1/more of the source is left over"):
        loaded({**arrays, "1/more": drawn(4, 1)})


# What is told


def test_a_table_says_what_went_where(capsys):
    weights = load_weights(nn.dense(2), {"weight": W[2], "bias": B[2]})
    rows = ["source  shape   parameter  shape", "weight  (2, 4)  W          (2, 4)",
            "bias    (2,)    b          (2, 1)"]  # fmt: skip
    table = "".join(f"{row}\n" for row in rows)
    assert capsys.readouterr().out == table
    assert f"{weights}\n" == table
    told = []
    load_weights(nn.dense(2), {"weight": W[2], "bias": B[2]}, on_table=told.append)
    assert told == [str(weights)]
    assert capsys.readouterr().out == ""


def test_the_precision_is_that_of_the_arrays_unless_it_is_given():
    halves = {"weight": W[2].astype(np.float16), "bias": B[2].astype(np.float16)}
    assert loaded(halves, nn.dense(2)).parameters.vector.dtype == np.float32
    mixed = {"weight": W[2].astype(np.float32), "bias": B[2]}
    assert loaded(mixed, nn.dense(2)).parameters.vector.dtype == np.float64
    assert loaded(mixed, nn.dense(2), dtype="float32").parameters.vector.dtype == np.float32


def test_a_layer_that_cannot_be_described_is_laid_out_by_its_own_init():
    own = attrs.evolve(nn.dense(2), name="mine")
    weights = loaded({"weight": W[2], "bias": B[2]}, own)
    np.testing.assert_array_equal(weights.parameters["W"], W[2])


def without(name):
    return {other: array for other, array in TORCH.items() if other != name}


SMALL = nn.serial(nn.dense(4), nn.relu(), nn.dense(2))
SQUARE = {"a0": W[1], "b0": B[1], "a1": W[1], "b1": B[1]}
REFUSED = {
    "an array of a layer is missing": (without("3.bias"), NETWORK, {},
        r"3\.weight \(4, 4\), but here come 3/W \(4, 4\), 3/b \(4, 1\)"),
    "a layer is missing": ({n: a for n, a in TORCH.items() if n[0] != "6"}, NETWORK, {},
        r"nothing left for 6/W \(2, 4\), 6/b \(2, 1\)"),
    "a layer is left over": ({**TORCH, "7.weight": W[2], "7.bias": B[2]}, NETWORK, {},
        r"7\.weight \(2, 4\), 7\.bias \(2,\) of the source is left over"),
    "another width": ({**TORCH, "6.weight": drawn(2, 5)}, NETWORK, {},
        r"6\.weight of the source has shape \(2, 5\) but 6/W of the network has \(2, 4\)"),
    "another bias": ({**TORCH, "0.bias": drawn(5)}, NETWORK, {},
        r"0\.bias of the source has shape \(5,\) but 0/b of the network has \(4, 1\)"),
    "a norm where there is none": (TORCH, SMALL, {},
        r"1\.weight of the source has shape \(4,\) but 2/W of the network has \(2, 4\)"),
    "the examples' shape": (TORCH, NETWORK, {"shape_in": (7,)},
        r"0\.weight of the source has shape \(4, 3\) but 0/W of the network has \(4, 7\)"),
    "Keras where PyTorch is said": ({"weight": W[0].T, "bias": B[0]}, nn.dense(4), {},
        r"weight of the source has shape \(3, 4\)"),
    "square, of an unknown kind": (SQUARE, nn.serial(nn.dense(4), nn.dense(4)), {},
        r"the layouts of pytorch and of keras.* give kind='pytorch' or kind='keras'"),
    "not finite": ({**TORCH, "4.bias": np.array([1, np.nan, 0, 0])}, NETWORK, {},
        r"4/beta of the source holds nan"),
    "beyond float32": ({"weight": W[2] * 1e300, "bias": B[2]}, nn.dense(2), {"dtype": "float32"},
        r"W of the source holds -?inf"),
    "integers": ({"weight": np.ones((2, 4), int), "bias": B[2]}, nn.dense(2), {},
        r"weight of the source holds int64, expected floats"),
    "texts": ({"weight": np.full((2, 4), "a"), "bias": B[2]}, nn.dense(2), {}, r"holds <U1"),
    "nothing": ({}, SMALL, {}, "has no arrays"),
    "no source": (7, SMALL, {}, "source is 7, expected a file"),
    "no network": (TORCH, 7, {}, "network is 7, expected a stage"),
    "no such kind": (TORCH, SMALL, {"kind": "torch"}, "there is no kind of weights 'torch'"),
    "no such dtype": (TORCH, SMALL, {"dtype": "float16"}, "there is no dtype 'float16'"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "network", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(source, network, options, message):
    with pytest.raises(BadInput, match=message):
        loaded(source, network, **options)


def test_a_file_that_does_not_say_the_order_is_not_guessed(tmp_path):
    arrays = {"encoder.weight": W[1], "encoder.bias": B[1], "body.weight": W[1], "body.bias": B[1]}
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes(arrays, about=""))
    network = nn.serial(nn.dense(4), nn.dense(4))
    with pytest.raises(BadInput, match=r"body and encoder of the source both fit 0/W"):
        loaded(tmp_path / "m.safetensors", network)
    # Shapes can say it, and so does a mapping.
    arrays["encoder.weight"] = W[0]
    (tmp_path / "n.safetensors").write_bytes(safetensors_bytes(arrays, about=""))
    np.testing.assert_array_equal(
        loaded(tmp_path / "n.safetensors", network).parameters["0/W"], W[0]
    )


def test_layers_are_numbered_as_people_count(tmp_path):
    arrays = {}
    for i in range(12):
        arrays |= {f"{i}.weight": W[1] + i, f"{i}.bias": B[1]}
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes(arrays, about=""))
    weights = loaded(tmp_path / "m.safetensors", nn.serial(*[nn.dense(4)] * 12))
    np.testing.assert_array_equal(weights.parameters["10/W"], W[1] + 10)


def test_outputs_can_be_checked_at_once():
    X = drawn(3, 5)
    weights = loaded(TORCH)
    expected = nn.output_of(NETWORK, weights, X)
    loaded(TORCH, check=(X, expected))
    loaded(
        {n: a.astype(np.float32) for n, a in TORCH.items()}, check=(X, expected), dtype="float32"
    )
    swapped = {**TORCH, "3.weight": W[1].T}
    with pytest.raises(BadInput, match=r"output 0 of example \d is .*, expected .* order of the"):
        loaded(swapped, check=(X, expected))
    with pytest.raises(BadInput, match=r"expected has shape \(5, 2\), expected \(2, 5\)"):
        loaded(TORCH, check=(X, expected.T))


# Files from strangers


def torch_zip():
    return archive({"archive/data.pkl": pickle.dumps({}), "archive/data/0": b"1234"})


@pytest.mark.parametrize("content", [torch_zip(), pickle.dumps({"a": 1}), pickle.dumps([], 2)])
def test_pickles_are_refused_with_what_to_do(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.pt is a Python pickle.*safetensors\.torch\.save_"):
        loaded(tmp_path / "model.pt")


def cyclic(file):
    keras_3(file)
    file["layers/dense/again"] = file["layers"]


def linked(file):
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "x")
    file["layers/dense/vars/1"] = h5py.SoftLink("/layers/dense/vars/0")


def outside(file):
    keras_2(file)
    file["dense"].attrs["weight_names"] = [b"../dense_1/kernel:0"]


def numbers(file):
    keras_2(file)
    file.attrs["layer_names"] = [1, 2]


def huge(file):
    keras_3(file)
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (3, 4), "f4", chunks=(3, 4), maxshape=(None, None))
    file["layers/dense/vars/0"].resize((2**40, 4))


def objects(file):
    keras_3(file)
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = [["a", "b", "c", "d"]] * 3


HOSTILE = {
    "nothing of Keras": (lambda file: file.create_group("a"), "has no layers of Keras"),
    "groups inside themselves": (cyclic, "groups inside themselves"),
    "links to other files": (linked, "has no layers of Keras"),
    "a weight outside its layer": (outside, "which names it"),
    "numbers as names": (numbers, "is not a list of texts"),
    "a size that the file does not have": (huge, "change the network|claims"),
    "no numbers": (objects, "holds object, expected numbers"),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_keras_file_is_refused_in_one_line(write, message, tmp_path):
    (tmp_path / "m.weights.h5").write_bytes(hdf5_bytes(write))
    with pytest.raises(BadInput, match=message):
        loaded(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras", "keras2.h5"])
def test_a_cut_or_changed_keras_file_is_refused_or_read(name, tmp_path):
    content, path = FILES[name](), tmp_path / name
    # The table of contents is at both ends.
    for place in [*range(0, 2000, 331), *range(2000, len(content), len(content) // 7)]:
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        for damaged in (bytes(changed), content[:place]):
            path.write_bytes(damaged)
            with contextlib.suppress(BadInput):
                loaded(path)


def test_a_keras_archive_with_a_broken_configuration_is_refused(tmp_path):
    members = {"config.json": "[" * 50_000, "model.weights.h5": hdf5_bytes(keras_3)}
    (tmp_path / "m.keras").write_bytes(archive(members))
    with pytest.raises(BadInput, match=r"config\.json in .* is not JSON"):
        loaded(tmp_path / "m.keras")


def test_nothing_is_read_of_a_network_that_does_not_fit():
    def read():
        raise AssertionError("shapes alone must do")

    from pydnn.interop import weights
    from pydnn.interop.stored import Source, Stored

    source = Source([Stored("weight", (2**40, 2**20), read)], ordered=True)
    with pytest.raises(BadInput):
        weights._fitting(nn.dense(2), source, None, None)


def test_a_source_may_be_any_record_of_parameters_and_statistics(model):
    state = types.SimpleNamespace(parameters=model.parameters, statistics=model.statistics)
    assert loaded(state).parameters == model.parameters


def network_of(classes):
    return nn.serial(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(classes))


@pytest.fixture
def trained(tmp_path):
    data = Batch(np.random.default_rng(0).normal(size=(3, 20)), np.arange(20)[np.newaxis] % 2)
    network = "serial(dense(4), batch_norm(), relu(), dense(2))"
    recipe = Recipe("points", network, "softmax_cross_entropy()", "adam()", iterations=4)
    model = nn.train(recipe, data).model
    model.save(tmp_path / "old.h5")
    return model


@pytest.mark.parametrize("form", ["model", "file", "arrays"])
def test_the_last_layers_can_be_drawn_for_another_task(trained, tmp_path, form):
    arrays = {slot.name: trained.parameters[slot.name] for slot in trained.parameters.layout.slots}
    gathered = trained.statistics
    arrays |= {f"statistics/{slot.name}": gathered[slot.name] for slot in gathered.layout.slots}
    source = {"model": trained, "file": tmp_path / "old.h5", "arrays": arrays}[form]
    options = {"on_table": None, "shape_in": (3,)}
    key = nn.Key(5)
    start = load_weights(network_of(7), source, new_layers=1, key=key, **options)
    drawn, _ = network_of(7).init(key, (3,))
    assert start.parameters["3/W"].shape == (7, 4)
    np.testing.assert_array_equal(start.parameters["3/W"], drawn[3].W)
    for name in ("0/W", "0/b", "1/gamma", "1/beta"):
        if name in arrays:
            np.testing.assert_array_equal(start.parameters[name], arrays[name])
    for slot in gathered.layout.slots:
        np.testing.assert_array_equal(start.statistics[slot.name], gathered[slot.name])
    start.save(tmp_path / "start.safetensors")
    again = load_weights(network_of(7), tmp_path / "start.safetensors", **options)
    assert again.parameters.vector.tobytes() == start.parameters.vector.tobytes()
    both = load_weights(network_of(7), source, new_layers=2, key=key, **options)
    assert both.parameters["0/W"].tolist() == arrays["0/W"].tolist()
    for slot in both.statistics.layout.slots:  # of a batch normalization that is new
        assert (both.statistics[slot.name] != gathered[slot.name]).any()


def test_training_starts_from_weights_with_a_new_last_layer(trained, tmp_path):
    start = load_weights(network_of(3), trained, new_layers=1, shape_in=(3,), on_table=None)
    start.save(tmp_path / "start.safetensors")
    data = Batch(np.random.default_rng(1).normal(size=(3, 21)), np.arange(21)[np.newaxis] % 3)
    network = "serial(dense(4), batch_norm(), relu(), dense(3))"
    path = str(tmp_path / "start.safetensors")
    recipe = Recipe(
        "points", network, "softmax_cross_entropy()", "adam()", iterations=4, start_from=path
    )
    assert nn.jobs.prepare(recipe, data).state.parameters == start.parameters


@pytest.mark.parametrize(
    ("network", "new", "message"),
    [
        (network_of(2), 3, "new_layers is 3, but the source has 3 layers, expected fewer"),
        (network_of(2), -1, "new_layers is -1"),
        (network_of(3), 0, "but 3/W of the network has"),
        (nn.serial(nn.dense(5)), 1, "new_layers is 1, but the network has 1 layers"),
    ],
)
def test_new_layers_that_do_not_fit_are_refused(trained, network, new, message):
    with pytest.raises(BadInput) as refused:
        load_weights(network, trained, new_layers=new, shape_in=(3,), on_table=None)
    assert message in str(refused.value)


def test_layers_without_an_order_have_no_last_one():
    arrays = {"params": {n: {"kernel": np.ones((2, 2)), "bias": np.ones(2)} for n in ("b", "a")}}
    with pytest.raises(BadInput, match="the source does not say which of its layers come last"):
        load_weights(nn.serial(nn.dense(2), nn.dense(2)), arrays, new_layers=1, on_table=None)


def test_weights_are_saved_under_a_name_that_says_what_they_are(trained, tmp_path):
    start = load_weights(network_of(2), trained, shape_in=(3,), on_table=None)
    with pytest.raises(BadInput, match=r"expected a \.safetensors name"):
        start.save(tmp_path / "start.h5")
