"""Radii that are none, typed and in a run file."""

from __future__ import annotations

import json

from support.hostile.case import Case, writes

TYPED = (
    "", " ", ",", "1/255,", ",1/255", "1/255,,2/255", "-1", "-1/255", "1/-255", "-1/-255", "1/0", "0/0", "1//255", "1/255/2", "/255", "4/",
    "nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e-400", "1e-9999", "1e99999", "1e5", "256", "1.5", "8", "255", "0x10",
    "1_000", "1_0/255", "\uff11/255", "\u0664/255", "½", "4\u2044255", "4÷255", "4\\255", "4|255", "4:255", "4 255", "4/ 255 x", "4 / 2 5 5", "four",
    "eps", "1+1", "1-1", "1*1", "2**3", "(1)", "[1]", "{1}", "1;2", "1e", "e1", "1e+", ".", "+", "-", "..", "1.2.3", "1,2.5/255;3",
    "True", "None", "null", "~", "1j", "1f", "4/255px", "0.1 mm", "$1", "`1`", "1\n2", "1\t2", "\x1b[31m1", "1\x00", "1\x7f",
    "\u202e1/255", "1\u200b", "\ufeff1", "9" * 400, "1/" + "9" * 400, "9" * 5000, "0." + "0" * 5000 + "1", "1" + "0" * 100_000,
    "1/3e400", "1e39", "1e-40", "3e-39", "mri", "mri=", "=1/255", "mri=1/255,", "mri=1/255,mri=2/255", "mri=-1", "mri=nan", "mri=2",
    "nose=1/255", "mri=1/255,nose=0", "mri==1", "mri=1=2", "mri 1/255", "mri:1/255", "MRI=1/255", "mri=1/255;xray=0", "mri=4/0",
    "L2", "L2:", ":0.5", "L3:0.5", "l2:0.5", "L2:0.5:1", "L2:-1", "L2:nan", "Linf:", "Linf:2", "Linf:L2:1", "L2=0.5", "L2:0.5", "L0:0.5",
    "Linf:1/255,L2:0.5", "L2:mri=1", "Linf:mri=2", "Linf: ", "{mri: 1}", "{'mri': 0.1}", "[1/255, 2/255]", "1/255 2/255", "x" * 100_000,
    "=" * 1000, "," * 1000, ":" * 1000, "/" * 1000, "a=1," * 1000, "L2:" * 500,
)  # fmt: skip
"""None of them is a radius under Linf on the phantoms."""
WRITTEN: tuple[object, ...] = (
    None, True, False, [], {}, [[]], [None], [True], -1, 2, [2], 1.5, {"mri": None}, {"mri": -1}, {"mri": {"a": 1}}, {"nose": 0.1},
    {"mri": [0.1, 0.2, [0.3]]}, {"L3": 0.1}, {"L2": 0.5}, {"Linf": []}, {"Linf": None}, {"Linf": {"mri": "x"}}, {"Linf": 0.1, "x": 1},
    [0.1, "x"], ["", 0.1], {"": 0.1}, {"1": 0.1}, [{"mri": 0.1}, {"mri": "nan"}], 10**30, -(10**30), "x", "1/0", [["1/255"], ["x"]],
    {"mri": True}, [10**5000],
)  # fmt: skip
RUN = ("plan", "--model", "late", "--attack", "fgsm", "--model-param", "width=8")


def cases() -> list[Case]:
    """What must be refused."""
    typed = [
        Case(f"typed {i}: {text[:30]!r}", (*RUN, f"--eps={text}"), says=())
        for i, text in enumerate(TYPED)
        if "\0" not in text
    ]
    import sys

    sys.set_int_max_str_digits(0)
    written = [
        Case(
            f"written {i}: {str(value)[:30]}",
            (*RUN, "--config", "run.yaml"),
            writes("run.yaml", f"eps: {json.dumps(value)}"),
        )
        for i, value in enumerate(WRITTEN)
    ]
    sys.set_int_max_str_digits(4300)
    return typed + written
