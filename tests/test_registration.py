"""A saved ensemble is read by Keras alone wherever kdfuse is imported, before or after it."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kdfuse
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.registration import MODULES

READ = "import numpy as np; m = keras.models.load_model('m.keras'); np.save('y.npy', m([np.ones((2, 3)), np.zeros((2, 3))]))"


@pytest.mark.parametrize("imports", ["import kdfuse; import keras", pytest.param("import keras; import kdfuse", marks=pytest.mark.slow)])
def test_keras_knows_the_layers(imports, tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    keras.Model(inputs, Mean()(inputs)).save(tmp_path / "m.keras")
    done = subprocess.run([sys.executable, "-c", f"{imports}; {READ}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), 0.5)


def test_what_registers_itself_loads_nothing_heavy():
    code = (
        f"import keras, sys\nbefore = set(sys.modules)\nfrom importlib import import_module\nfor one in {MODULES!r}: import_module(one)\n"
    )
    code += "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "['kdfuse']", done.stdout


def test_kdfuse_alone_loads_no_keras():
    code = "import kdfuse, sys; assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_layer_of_the_ensembles_is_among_them():
    room = Path(kdfuse.__file__).parent / "ensemble"
    found = [file for file in sorted(room.rglob("*.py")) if "\n@keras.saving.register_keras_serializable" in file.read_text()]
    assert sorted(MODULES) == sorted("kdfuse.ensemble." + ".".join(file.relative_to(room).with_suffix("").parts) for file in found)
