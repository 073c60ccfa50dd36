"""The study, which asks whether denoising or masking helps a classification."""
