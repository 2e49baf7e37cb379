"""What several experiments share: text and its cleaning, labelled styles, files of results."""
