"""Plugins that disturb which platform SGLang takes."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_ANSWER = '    return "acme.platform.AcmePlatform"\n'

DEFECTS = (
    Defect(
        "class-makes-an-instance-of-another",
        "SEL-001",
        (
            Edit(
                "platform.py",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n"
                "    def __new__(cls) -> Any:\n"
                "        return object.__new__(SRTPlatform)\n\n",
            ),
        ),
    ),
    Defect(
        "activate-gives-way-to-other-plugins",
        "SEL-005",
        (
            Edit(
                "__init__.py",
                _ANSWER,
                "    from importlib.metadata import entry_points\n"
                "    if len(entry_points(group='sglang.srt.platforms')) > 1:\n"
                "        return None\n" + _ANSWER,
            ),
        ),
        also=("SEL-006",),
    ),
    Defect(
        "two-platforms-of-one-distribution-activate",
        "SEL-002",
        (Edit("entry_points.txt", "acme = acme:activate\n", "acme = acme:activate\nacme_beta = acme:activate\n"),),
        also=("SEL-005", "HOOK-011"),
    ),
    Defect(
        "platform-resolves-to-another-instance-each-time",
        "SEL-003",
        (
            Edit(
                "platform.py",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n"
                "    def __init__(self) -> None:\n"
                "        import sys\n"
                "        module = sys.modules['sglang.srt.platforms']\n"
                "        module.__class__ = type('Fresh', (type(module),), {'current_platform': property(\n"
                "            lambda self: object.__new__(AcmePlatform))})\n\n",
            ),
        ),
    ),
    Defect(
        "activate-imports-the-other-plugins",
        "SEL-006",
        (
            Edit(
                "__init__.py",
                _ANSWER,
                "    from importlib.metadata import entry_points\n"
                "    for point in entry_points(group='sglang.srt.platforms'):\n"
                "        if point.name != 'acme' and point.name in ('alpha', 'beta'):\n"
                "            try:\n"
                "                point.load()\n"
                "            except ImportError:\n"
                "                pass\n" + _ANSWER,
            ),
        ),
    ),
    Defect(
        "construction-clears-the-selection",
        "SEL-007",
        (
            Edit(
                "platform.py",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n",
                "class AcmePlatform(SRTPlatform, AcmeDeviceMixin):\n"
                "    def __init__(self) -> None:\n"
                "        import os\n"
                "        os.environ.pop('SGLANG_PLATFORM', None)\n\n",
            ),
        ),
        also=("ACT-014",),
    ),
    Defect(
        "activate-refuses-an-allowlist",
        "SEL-008",
        (
            Edit(
                "__init__.py",
                _ANSWER,
                "    if os.environ.get('SGLANG_PLUGINS') == 'acme,acme_hooks':\n        return None\n" + _ANSWER,
            ),
        ),
        also=("SEL-005",),
    ),
    Defect(
        "declines-beside-other-plugins",
        "SEL-005",
        (
            Edit(
                "__init__.py",
                _ANSWER,
                "    from importlib.metadata import entry_points\n"
                "    if len(entry_points(group='sglang.srt.platforms')) > 1:\n        return None\n" + _ANSWER,
            ),
        ),
    ),
    Defect(
        "declines-in-child-processes",
        "SEL-009",
        (
            Edit(
                "__init__.py",
                _ANSWER,
                "    import multiprocessing\n    if multiprocessing.parent_process():\n        return None\n" + _ANSWER,
            ),
        ),
    ),
    Defect(
        "another-platform-in-child-processes",
        "SEL-009",
        (
            Edit("platform.py", "", "\n\nclass AcmeWorkerPlatform(AcmePlatform):\n    pass\n"),
            Edit(
                "__init__.py",
                _ANSWER,
                "    import multiprocessing\n    if multiprocessing.parent_process():\n"
                '        return "acme.platform.AcmeWorkerPlatform"\n' + _ANSWER,
            ),
        ),
    ),
)
