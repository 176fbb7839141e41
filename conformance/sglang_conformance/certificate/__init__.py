"""From what the checks saw to a certificate: verdict arithmetic and the writers."""
