module mkimage

go 1.26
