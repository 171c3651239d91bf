"""Where Switchboard runs: its template for AWS, and the same template on a local AWS emulator."""
