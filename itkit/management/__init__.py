"""What ``manage.py itkit`` does, and the commands themselves in ``commands``.

Read in this order: ``doctor`` (what a schema for each worker does not keep apart), ``clean``
(what itkit keeps for later runs), ``factories`` (factories and scenarios outside of tests).
"""
