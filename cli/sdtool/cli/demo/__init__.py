"""What `sdtool demo` works on."""
