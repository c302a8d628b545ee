//! File and environment to one validated Config; the only reader of the environment.
