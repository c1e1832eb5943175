"""`Watch`: measures a network while it trains, in a folder that it goes on from."""
