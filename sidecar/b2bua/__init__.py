"""The back-to-back user agent: two legs a call, pure. Bytes and `now` go in, effects and facts come out."""
