"""From a network to a folder that an app, a web page and a reviewer can use, and the check of such a folder."""
