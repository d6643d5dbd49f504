"""The codec alone, without a store: what is encoded and read (``shapes``), and the other sides."""
