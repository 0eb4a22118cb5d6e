"""Measurements of sugarsearch, run by hand; results lie in results/ with device, versions and date."""
