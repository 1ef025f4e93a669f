"""What bcx's libraries would send to their makers, switched off before any of them is imported.

Each library reads its own environment variable, some natively and at their import, so the values are set when
`bcx` itself is imported, and worker processes inherit them. They are set even where the environment says otherwise:
bcx promises that nothing is sent.
"""

import os

SWITCHES = {
    # Asks a package index for its newest version at every import.
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # Reports each page that is built and launched, and asks for its newest version.
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Counts downloads, and says in each request what is installed.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # From 1.29 on: a device id and events in the user's cache, sent every few seconds. Its
    # `disable_telemetry_events()` comes too late for both; without 1DS, on older Windows builds, it is what there is.
    "ORT_DISABLE_TELEMETRY": "1",
    # Reports each cluster that is started.
    "RAY_USAGE_STATS_ENABLED": "0",
    # What further libraries ask for: https://donottrack.sh
    "DO_NOT_TRACK": "1",
}


def switch_off_telemetry() -> None:
    os.environ.update(SWITCHES)
