"""Who a call is: its identifiers and their way through platforms, and digest authentication (RFC 7616, RFC 8760)."""
