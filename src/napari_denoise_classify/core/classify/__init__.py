"""Classifiers of cells and fields: samples, estimators, model files."""
