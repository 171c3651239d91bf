"""infra/template.yaml as tests read it: as written, and as CloudFormation sees it after the SAM transform."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode.cfn_yaml import load
from samtranslator.translator.transform import transform

PATH = Path(__file__).parent.parent / "infra" / "template.yaml"

type Template = dict[str, Any]


@cache
def _source() -> Template:
    return load(str(PATH))[0] if isinstance(load(str(PATH)), tuple) else load(str(PATH))
