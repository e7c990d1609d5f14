"""A Redis server: itkit's own connections to it, and the rights of a worker.

Read in this order: ``redis_py`` (the library may be absent), ``server``, ``lease`` (runs that are
alive), ``acl`` (a worker's user, and what the server has denied it), ``tracking`` (which keys are
written), ``keys`` (reads them).
"""
