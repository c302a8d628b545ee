//! Guards the direction of the layers.
