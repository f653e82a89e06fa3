"""Deployment: local engines, container images, the Dataflow template, the site."""
