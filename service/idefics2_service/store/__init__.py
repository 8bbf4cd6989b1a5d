"""Requests that outlive the process: one interface, and engines that keep it."""
