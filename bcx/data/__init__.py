"""Which files there are, what they show, and which belong together.

>>> from bcx.data.readers import read_source          # folders and manifests become records
>>> from bcx.data.splits import assign_folds          # records become folds that no group straddles
"""
