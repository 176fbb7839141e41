"""What several checks of PyNCCL communicators need, one noun a module."""
