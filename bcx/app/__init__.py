"""The page: what a person asks becomes one call of the engine, and its answer becomes words and images.

```python
import bcx
from bcx.app.page import build_app

build_app(bcx.load()).launch()
```
"""
