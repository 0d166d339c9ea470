"""Victims: what a preset means, how a network is trained and defended, where its weights lie."""
