"""Why a classifier says what it says."""
