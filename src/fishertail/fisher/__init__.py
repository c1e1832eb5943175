"""The largest eigenpairs of the empirical Fisher matrix F = G^T G / N."""
