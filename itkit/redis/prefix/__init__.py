"""The prefix: which words of a command get it, and which words of a reply lose it.

Read in this order: ``namespace``, ``plans``, ``pubsub`` (channels), ``rewrite``, ``scripts`` with
``prologue.lua``, ``command_info`` (commands of modules).
"""
