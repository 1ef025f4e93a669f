"""Any file, bytes or array becomes pixels, safely; then what a network sees, and back; painting on a scan."""
