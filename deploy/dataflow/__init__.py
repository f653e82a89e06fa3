"""The flex template of `pipelines.live`."""
