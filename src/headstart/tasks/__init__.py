from headstart.compat import mend_torchvision

# Lightning and torchmetrics import torchvision if it is there
mend_torchvision()
