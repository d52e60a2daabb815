// Exists only to give the precompiled header <torch/torch.h> an owner.
