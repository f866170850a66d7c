from headstart.compat import declare_torchvision_operators

# Lightning and torchmetrics import torchvision if it is there
declare_torchvision_operators()
