"""rtpengine as the relay of media: its NG protocol, a pool of instances, and what one call has there."""
