//! The daemon's domain: containers, images, volumes and events; their life-cycle and convergence.
