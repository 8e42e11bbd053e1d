"""Networks: U-Net and FCN, and the blocks that they are built of."""
