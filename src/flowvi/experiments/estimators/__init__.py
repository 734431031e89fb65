"""How a test finds −ln p(x): one entry of the registry for each estimator, and the functions that measure."""
