"""The connections of client libraries, where the prefix is added to the commands.

Read in this order: ``libraries`` and ``patch`` (which classes, those of Sentinel among them),
``guard`` (where they may connect), ``wire``, ``sync_connection``, ``async_connection``,
``pending_replies`` (the replies that a socket owes).
"""
