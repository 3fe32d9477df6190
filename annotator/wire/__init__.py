"""Messages between a browser and a session, typed: incoming, the inbox that stores them, outgoing."""
