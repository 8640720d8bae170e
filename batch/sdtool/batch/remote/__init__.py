"""Files that are elsewhere: on a web server, in a bucket, on Hugging Face; read part by part."""
