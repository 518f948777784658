"""The web page: files that a browser runs as they are. Everything it shows it asks of the API, as any other client would."""
