"""Images of any size: planes are processed in blocks, so that memory stays bounded.

A step declares how far it looks (`Reach`). A block is read with as many pixels around it, processed, and written
without them; where all steps of a recipe declare their reach, the result is that of whole planes. A step that
declares none sees whole planes, which have to fit into memory.
"""
